"""Makes Triton's interpreter fast enough for a test suite; it computes the same.

For every call of a function within a kernel the interpreter replaces the language's builtins by its own anew, nine
tenths of its time; here they are replaced once per launch. And operands of one shape are not broadcast.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def patch_once_per_launch() -> None:
    """Change the interpreter of this process; harmless where it is not used, and when called again."""
    import triton.language as tl
    from triton.language.semantic import TritonSemantic
    from triton.runtime import interpreter

    original = getattr(interpreter, "_patch_lang", None)
    if original is None or hasattr(original, "once_per_launch"):
        return
    everywhere = SimpleNamespace(__globals__={"tl": tl, "core": tl.core})
    active: list[Any] = []

    def patch(function: Any) -> Any:
        if active:
            return None
        scope = original(everywhere)
        restore = scope.restore

        def end() -> None:
            active.clear()
            restore()

        scope.restore = end
        active.append(scope)
        return scope

    patch.once_per_launch = True  # type: ignore[attr-defined]
    interpreter._patch_lang = patch

    broadcast = TritonSemantic.broadcast_impl_value

    def broadcast_if_needed(self: Any, lhs: Any, rhs: Any) -> Any:
        left, right = lhs.handle.data.shape, rhs.handle.data.shape
        if len(left) == 2 and left == right and lhs.type.is_block() and rhs.type.is_block():
            return lhs, rhs
        return broadcast(self, lhs, rhs)

    TritonSemantic.broadcast_impl_value = broadcast_if_needed
