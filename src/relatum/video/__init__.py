"""Video files in and out: time stamps, frames, cuts, motion. The only place that knows PyAV, OpenCV and PySceneDetect."""
