"""Options of the command line made from the fields of the training's configuration.

Each section of the config is a group of options in the help. An option that was not given says nothing, so
that the recipe and the config file are heard; its help tells what holds then.
"""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
import click
from click_option_group import optgroup
from pydantic.fields import FieldInfo

from ..trainer.config import DEFAULT, PLAIN, Config, recipes, resolve
from ..trainer.sizes import ON_CPU

WORDS = {True: "yes", False: "no"}
NOT_SET = {
    "world_size": "any",
    "helpers": "as the cores allow",
    "fold": "none",
    "deny": "none",
    "init_from": "none",
    "deterministic_ranks": "off",
    "keep_snapshots": "all",
}
BY_DATASET = {
    "steps": "fewer for few tuples",
    "emoji_residual": "but for paper yes where shards keep variants, and from 1,000 emojis on",
}


def config_options(command: Callable) -> Callable:
    """Add an option for every key of every section of the config."""
    configs = {recipe: resolve(recipe, None, {}) for recipe in recipes()}
    for part, section in reversed(Config.model_fields.items()):
        assert isinstance(section.annotation, type)
        for name, field in reversed(section.annotation.model_fields.items()):
            values = {recipe: getattr(getattr(config, part), name) for recipe, config in configs.items()}
            command = _option(name, field, _defaults(name, values))(command)
        command = optgroup.group(section.annotation.__doc__)(command)
    return command


def _option(name: str, field: FieldInfo, defaults: str) -> Callable:
    flag = name.replace("_", "-")
    kind = field.annotation
    text = f"{field.description} [default: {defaults}]"
    if kind is bool:
        return optgroup.option(f"--{flag}/--no-{flag}", name, default=None, help=text)
    return optgroup.option(f"--{flag}", name, type=_type(kind, field), default=None, help=text)


def _defaults(name: str, values: dict[str, Any]) -> str:
    """What a key is when it is not given: of the default recipe, of others where they differ, on a CPU."""

    def said(value: Any) -> str:
        if value in (None, ()):
            return NOT_SET[name]
        return WORDS[value] if isinstance(value, bool) else str(value)

    told = {recipe: said(value) for recipe, value in values.items()}
    if name in ON_CPU:  # what a recipe changes is left to it
        unchanged = [recipe for recipe, value in values.items() if value == values[PLAIN]]
        told |= {recipe: f"{told[recipe]}, on a CPU {ON_CPU[name]}" for recipe in unchanged}
    first = told.pop(DEFAULT)
    others = [f"{recipe}: {words}" for recipe, words in told.items() if words != first]
    return "; ".join([first, *others, *([BY_DATASET[name]] if name in BY_DATASET else [])])


def _type(kind: Any, field: FieldInfo) -> click.ParamType:
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    if get_origin(kind) is types.UnionType:
        (kind,) = (each for each in get_args(kind) if each is not types.NoneType)
    if kind is str:
        return click.STRING
    if kind == tuple[str, ...]:  # too many for a command line
        return click.Path(exists=True, dir_okay=False, path_type=Path)
    limits: dict[str, Any] = {}
    for bound in field.metadata:
        match bound:
            case annotated_types.Ge(ge=low):
                limits |= {"min": low}
            case annotated_types.Gt(gt=low):
                limits |= {"min": low, "min_open": True}
            case annotated_types.Le(le=high):
                limits |= {"max": high}
            case annotated_types.Lt(lt=high):
                limits |= {"max": high, "max_open": True}
    return {int: click.IntRange, float: click.FloatRange}[kind](**limits)
