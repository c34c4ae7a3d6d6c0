"""The training loop: knows accelerate, checkpoints and journals, and no mathematics."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from ..core.draws import Draws, key_of
from ..core.errors import DataError, Diverged, Interrupted, RecipeError
from ..core.ranks import Ranks
from .checkpoint import latest, write_checkpoint
from .ema import EMA
from .guard import find_nonfinite
from .job import Job, Result
from .meter import Meter
from .order import Order
from .recorder import Recorder
from .settings import TrainSettings
from .signals import StopRequest
from .snapshot import Snapshot
from .step import Moment, Step, replace_network
from .validate import held_out_loss

__all__ = ["Job", "Result", "train"]

OVERFLOWS = 20  # skipped fp16 updates in a row after which the loss scale cannot be the cause


def train(job: Job) -> Result:
    """Runs or resumes a job in its folder. The same command goes on where an interrupted one stopped, bit for bit on a CPU.

    Raises Diverged before an update that is not finite, Interrupted after SIGINT or SIGTERM (a checkpoint was written),
    DataError where the data set is smaller than a batch, RecipeError where the folder holds a run of other settings.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    settings, tracker = job.settings, job.settings.tracker()
    if settings.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise RecipeError('train.mixed_precision: "fp16" needs a GPU; use "no" or "bf16"')
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),  # else torchrun's processes on a CPU would not find each other
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        log_with=tracker,
        project_dir=str(job.folder) if tracker else None,
    )
    try:
        with _Loop(job, accelerator, tracker) as loop:
            return loop.run()
    finally:  # a later run of this process may have another precision
        AcceleratorState._reset_state(True)
        GradientState._reset_state()


class _Loop:
    """The state of a running job."""

    def __init__(self, job: Job, accelerator: Any, tracker: str | None) -> None:
        s = self.settings = job.settings
        self.tracker = tracker
        self.job, self.accelerator, self.main = job, accelerator, accelerator.is_main_process
        size = accelerator.num_processes
        self.ranks = Ranks(accelerator.process_index, size, accelerator.gather if size > 1 else None)
        self.order = Order(len(job.rows), job.seed, s.train_batch_size, s.gradient_accumulation_steps, size)
        if len(job.rows) < s.train_batch_size * size:
            raise DataError(
                f"{len(job.rows)} training rows are fewer than one batch ({s.train_batch_size} x {size} processes); "
                "lower train.train_batch_size or add rows"
            )
        self.network = job.parts.network.to(accelerator.device).train()
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        if not self.parameters:
            raise RecipeError("model: nothing is trainable with these settings")
        optimizer = _adamw(self.parameters, s)
        self.ema = EMA(self.network, s.ema_decay) if s.use_ema else None
        self.snapshot = Snapshot(self.network, optimizer, self.ema, job.parts, job.signature)
        self.recorder = Recorder(job, self.ranks, accelerator.device, self.order.samples_per_update)
        self.meter = Meter(accelerator.device)
        self.held_out: dict[str, Any] = {}
        self.updates = self.skipped = self.overflows = 0
        self.best: float | None = None
        self._resume()
        wrapped, self.optimizer = accelerator.prepare(self.network, optimizer)
        self.parts = replace_network(job.parts, wrapped)

    def __enter__(self) -> _Loop:
        track = None
        if self.tracker:
            self.accelerator.init_trackers("logs")
            track = self.accelerator.log
        self.recorder.open(self.updates, track)
        return self

    def __exit__(self, *error: Any) -> None:
        self.recorder.close()
        self.accelerator.end_training()
        self.accelerator.free_memory()

    def run(self) -> Result:
        if self.updates == 0:
            self._show("sanity")
            self._validate()
        with StopRequest() as stop:
            while self.updates < self.settings.max_train_steps:
                with self.meter.update():
                    self._update()
                last = self.updates == self.settings.max_train_steps
                if last or self.updates % self.settings.validation_steps == 0:
                    self._validate()
                stopping = self._any_rank(stop.requested)
                if last or stopping or self.updates % self.settings.checkpointing_steps == 0:
                    self._checkpoint()
                if stopping and not last:
                    raise Interrupted(f"stopped by a signal at step {self.updates}; run the same command again to go on")
        seen, meter = self.updates * self.order.samples_per_update, self.meter
        cost = {"seconds": meter.seconds, "steps_per_second": meter.updates_per_second, "peak_memory": meter.peak_memory}
        warnings = tuple(self.recorder.monitors.warnings)
        self.recorder.write(self.updates, {"event": "done", "samples_seen": seen, **cost, "warnings": warnings})
        self._finish()
        return Result(self.updates, seen, held_out=self.held_out, warnings=warnings, **cost)

    def _update(self) -> None:
        """One optimizer update over its micro-batches; nothing changes if anything is not finite."""
        s, accelerator = self.settings, self.accelerator
        torch.manual_seed(key_of(self.job.seed, "torch", self.updates, self.ranks.rank))  # dropout in networks resumes exactly
        moment = Moment(self.updates, measure=self.updates % s.balance_steps == 0)
        before = self.snapshot.remembered() if s.on_nonfinite == "skip" else {}
        steps: list[Step] = []
        problem: str | None = None
        norm: Any = None
        for micro in range(s.gradient_accumulation_steps):
            positions = self.order.positions(self.updates, micro, self.ranks.rank)
            batch = self.job.rows.batch(self.order.indices(positions)).to(accelerator.device)
            last = micro + 1 == s.gradient_accumulation_steps
            with self._synchronized(last):
                with accelerator.autocast():
                    step = self.job.step(self.parts, batch, Draws(self.job.seed, positions), self.ranks, moment)
                accelerator.backward(step.total.mean())
            if last:
                norm = accelerator.clip_grad_norm_(self.parameters, s.max_grad_norm)
            judged_norm = None if s.mixed_precision == "fp16" else norm  # its scaler overflows on purpose, and skips by itself
            found = find_nonfinite(step.losses, step.total, judged_norm, batch.where, step.level, self.ranks)
            problem = problem or found
            steps.append(step)
        if problem is None:
            self._apply()
        else:
            self.recorder.write(self.updates, {"event": "not finite", "problem": problem})
            if s.on_nonfinite == "stop":
                good = (self.job.folder / "checkpoints" / "last-good").is_file()
                words = "checkpoints/last-good is from before" if good else "there is no checkpoint yet"
                raise Diverged(f"update {self.updates}: {problem}. No update was made; {words}")
            self.skipped += 1
            self.snapshot.recall(before)
            if accelerator.scaler is not None:
                accelerator.scaler.update()  # gradients were unscaled for the clipping
        self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        self.recorder.log(self.updates, steps if problem is None else [], norm, self.skipped)

    def _synchronized(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients travel between processes once an update, at its last micro-batch."""
        return nullcontext() if last else self.accelerator.no_sync(self.parts.network)

    def _apply(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate_at(self.updates)
        self.optimizer.step()
        overflowed = self.accelerator.optimizer_step_was_skipped
        self.overflows = self.overflows + 1 if overflowed else 0
        if self.overflows >= OVERFLOWS:
            raise Diverged(f"update {self.updates}: the gradients overflowed in fp16 {OVERFLOWS} updates in a row; use bf16")
        if overflowed:
            self.skipped += 1
        elif self.ema is not None:
            self.ema.update(self.network)

    def _validate(self) -> None:
        job = self.job
        if job.held_out is not None and len(job.held_out):
            with self._averaged():
                limit, device = job.settings.validation_rows, self.accelerator.device
                self.held_out = held_out_loss(
                    self.parts, job.step, job.held_out, limit, job.levels, device, self.accelerator.autocast
                )
        self.recorder.validated(self.updates, self.held_out)
        self._show("samples")

    def _show(self, what: str) -> None:
        if self.job.show is not None and self.main:
            with self._averaged():
                self.job.show(what, self.updates)
        self.accelerator.wait_for_everyone()

    def _any_rank(self, flag: bool) -> bool:
        """Whether the flag is up on any process."""
        if self.ranks.size == 1:
            return flag
        return bool(self.ranks.gather(torch.tensor([int(flag)], device=self.accelerator.device)).any())

    def _averaged(self) -> AbstractContextManager[None]:
        """The EMA weights in place of the raw ones, for the length of a with-block."""
        return nullcontext() if self.ema is None else self.ema.applied(self.network)

    def _checkpoint(self) -> None:
        now = self.held_out.get("held_out", {}).get("matched_error", {}).get("mean")
        better = now is not None and (self.best is None or now < self.best)
        self.best = now if better else self.best
        if self.main:
            seen, scaler = self.updates * self.order.samples_per_update, self.accelerator.scaler
            extra = {"skipped": self.skipped, "held_out": self.held_out, "best": self.best, "seconds": self.meter.seconds}
            extra |= {"monitors": self.recorder.monitors.state(), "scaler": {} if scaler is None else scaler.state_dict()}
            write_checkpoint(
                self.job.folder,
                self.updates,
                lambda folder: self.snapshot.write(folder, self.updates, seen, self.job.seed, extra),
                self.settings.checkpoints_total_limit,
                best=better,
            )
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        found = latest(self.job.folder)
        if found is not None:
            state = self.snapshot.read(found)
            self.updates, extra = state.step, state.extra
            self.skipped, self.held_out, self.best = int(extra["skipped"]), extra["held_out"], extra["best"]
            self.meter.before = float(extra["seconds"])
            self.recorder.monitors.restore(extra["monitors"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(extra["scaler"])

    def _finish(self) -> None:
        if self.main:
            with self._averaged():
                self.job.save(self.job.folder / "final")
        self.accelerator.wait_for_everyone()


def _adamw(parameters: list[nn.Parameter], s: TrainSettings) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameters,
        lr=s.learning_rate,
        betas=(s.adam_beta1, s.adam_beta2),
        weight_decay=s.adam_weight_decay,
        eps=s.adam_epsilon,
    )
