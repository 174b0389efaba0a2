"""Check the steps that follow `qat` in a recipe, so that what was trained is what runs."""

from __future__ import annotations

from collections.abc import Sequence

from yolodeploy.backend import Params, Quantize, Step


def fits_qat(keep_float: tuple[str, ...], rest: Sequence[tuple[Step, Params]]) -> str | None:
    """Why the steps after `qat` do not fit it, with the remedy; None if they do.

    Until `quantize`, which takes the learned ranges, the model may only change its format.
    """
    at = next((n for n, (_, its) in enumerate(rest) if isinstance(its, Quantize)), None)
    if at is None:
        return (
            "`qat` trains for 8-bit arithmetic, and no `quantize` follows. Add `quantize` after `export`, "
            "or use `finetune`, which trains for floating point."
        )
    between = [step.name for step, _ in rest[:at] if step.accepts == step.produces]
    if between:
        return (
            f"`{between[0]}` between `qat` and `quantize` would change what was trained. Move it before `qat`, "
            "or remove it."
        )
    step, params = rest[at]
    return _same(keep_float, step.name, params)


def _same(keep_float: tuple[str, ...], name: str, params: Params) -> str | None:
    theirs: tuple[str, ...] = getattr(params, "keep_float", ())
    if set(theirs) != set(keep_float):
        return (
            f"`qat` keeps {_listed(keep_float)} in floating point, but `{name}` keeps {_listed(theirs)}. Write the "
            "same `keep_float` in both."
        )
    written = {key for key in params.model_fields_set if getattr(params, key) not in (None, False)}
    idle = sorted(written - {"keep_float"})
    if idle:
        return (
            f"`{idle[0]}` of `{name}` has no effect after `qat`: ranges and biases are those that were trained, and "
            "`keep_float` says what stays float. Remove it."
        )
    return None


def _listed(selectors: tuple[str, ...]) -> str:
    return f"[{', '.join(selectors)}]"
