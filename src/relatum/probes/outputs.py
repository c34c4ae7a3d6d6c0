"""What layers of a network give on the way."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from ..core.errors import RecipeError

__all__ = ["outputs_of"]


@contextmanager
def outputs_of(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within, every forward pass leaves here what the modules of these names gave; of a tuple its first.

    RecipeError for a name that no module has.
    """
    found: dict[str, Tensor] = {}
    modules = dict(network.named_modules()) if names else {}
    for name in names:
        if name not in modules:
            near = difflib.get_close_matches(name, modules, 3, 0.5) or [child for child, _ in network.named_children()]
            raise RecipeError(f"the network has no block {name!r}; some that it has: {', '.join(near)}")

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: found.update({name: output[0] if isinstance(output, tuple) else output})

    handles = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
