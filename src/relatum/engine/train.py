"""The training loop: knows accelerate, checkpoints and journals, and no mathematics."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..core.draws import Draws, key_of
from ..core.errors import DataError, Diverged, Interrupted, RecipeError
from ..core.ranks import Ranks
from .ema import EMA
from .job import Job, Result
from .keeper import Keeper
from .meter import Meter
from .order import Order
from .recorder import Recorder
from .settings import TrainSettings
from .sight import Sight
from .signals import StopRequest
from .snapshot import Snapshot
from .step import Moment, replace_network
from .validate import held_out_loss
from .vigil import Action, Vigil

__all__ = ["Job", "Result", "train"]

OVERFLOWS = 20  # skipped fp16 updates in a row after which the loss scale cannot be the cause


def train(job: Job) -> Result:
    """Runs or resumes a job in its folder. The same command goes on where an interrupted one stopped, bit for bit on a CPU.

    Raises Diverged before an update that is not finite (a post-mortem is written), Interrupted after SIGINT or SIGTERM (a
    checkpoint was written), DataError where the data set is smaller than a batch, RecipeError where the folder holds a run of
    other settings.
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
        self.recorder = Recorder(job, self.ranks, accelerator.device, self.order.samples_per_update)
        self.meter = Meter(accelerator.device)
        self.vigil = Vigil(job, self.ranks, self.recorder)
        self.sight = Sight(self.network, s, self.main)
        self.snapshot = Snapshot(self.network, optimizer, self.ema, job.parts, job.signature)
        self.keeper = Keeper(job.folder, s, self.snapshot, self.vigil, self.recorder.monitors, self.meter)
        self.updates, self.overflows = self.keeper.resume(accelerator.scaler), 0
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
        try:
            self._run()
            self._finish()
        except Diverged as error:
            raise self.vigil.bury(error) from error
        seen, meter = self.updates * self.order.samples_per_update, self.meter
        cost = {"seconds": meter.seconds, "steps_per_second": meter.updates_per_second, "peak_memory": meter.peak_memory}
        warnings = tuple(self.recorder.monitors.warnings)
        self.recorder.write(self.updates, {"event": "done", "samples_seen": seen, **cost, "warnings": warnings})
        return Result(self.updates, seen, held_out=self.keeper.held_out, warnings=warnings, **cost)

    def _run(self) -> None:
        if self.updates == 0:
            self._show("sanity")
            self._validate()
            if "rollback" in self.settings.undoes:
                self._checkpoint(planned=True)
        with StopRequest() as stop:
            while self.updates < self.settings.max_train_steps:
                with self.meter.update():
                    self._update()
                last = self.updates == self.settings.max_train_steps
                if last or self.updates % self.settings.validation_steps == 0:
                    self._validate()
                stopping = self._any_rank(stop.requested)
                planned = last or self.updates % self.settings.checkpointing_steps == 0
                if planned or stopping:
                    self._checkpoint(planned)
                if stopping and not last:
                    raise Interrupted(f"stopped by a signal at step {self.updates}; run the same command again to go on")

    def _update(self) -> None:
        """One optimizer update over its micro-batches; nothing changes if the vigil says so."""
        s, accelerator = self.settings, self.accelerator
        torch.manual_seed(key_of(self.job.seed, "torch", self.updates, self.ranks.rank))  # dropout in networks resumes exactly
        moment = Moment(self.updates, measure=self.updates % s.balance_steps == 0)
        before = self.snapshot.remembered() if "skip" in s.undoes else {}
        norm: Any = None
        with self.sight.watching(self.updates):
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
                self.vigil.see(step, batch.where, judged_norm)
        steps, action = self.vigil.judge(self.updates, norm, self.sight.report(norm))
        self._take(action, before)
        self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        self.recorder.log(self.updates, steps, norm, self.vigil.counts())

    def _take(self, action: Action, before: Mapping[str, Tensor]) -> None:
        """Makes the update, leaves it out, or goes back to the weights of the last good checkpoint; batches go on in any case."""
        if action == "go":
            self._apply()
            return
        if action == "skip":
            self.snapshot.recall(before)
        else:
            self.keeper.roll_back()
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.update()  # gradients were unscaled for the clipping

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
            self.vigil.stop(f"the gradients overflowed in fp16 {OVERFLOWS} updates in a row; use bf16", self.updates)
        if overflowed:
            self.vigil.skipped += 1
        elif self.ema is not None:
            self.ema.update(self.network)

    def _validate(self) -> None:
        job = self.job
        if job.held_out is not None and len(job.held_out):
            with self._averaged():
                limit, device = job.settings.validation_rows, self.accelerator.device
                self.keeper.held_out = held_out_loss(
                    self.parts, job.step, job.held_out, limit, job.levels, device, self.accelerator.autocast
                )
        self.recorder.validated(self.updates, self.keeper.held_out)
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

    def _checkpoint(self, planned: bool) -> None:
        seen, scaler = self.updates * self.order.samples_per_update, self.accelerator.scaler
        self.keeper.write(self.updates, seen, self.job.seed, scaler, self.main, planned)
        self.accelerator.wait_for_everyone()

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
