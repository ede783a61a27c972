"""Command-line options from configuration classes: each field of a frozen dataclass becomes an option.

    @dataclass(frozen=True)
    class FitConfig:
        heads: tuple[str, ...] = option((), "Heads, separated by commas or repeated.", "--head", shown="all")
        folds: int = option(5, "Number of folds.", least=2)

    @app.command()
    @options_from(FitConfig)
    def fit(config: FitConfig, jobs: int = 1) -> None: ...      # ser fit --head mlp,svm --folds 10 --jobs 2

The default, the help text and the type of an option are thus written once, and a command receives a finished
configuration object.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

NUMBER_OR_FILE = int | str  # type of a field whose option takes a number or a path
OPTION = "option"  # key of the OptionFacts in the metadata of a dataclass field


@dataclasses.dataclass(frozen=True)
class OptionFacts:
    """The settings of the command-line option of one field."""

    help: str  # help text
    name: str  # name of the option, such as "--head"; "" for the name of the field
    shown: str | None  # text that the help shows as the default; None for the default itself
    least: int | None  # smallest number that the option accepts; None for no limit


def option(default: Any, help: str, name: str = "", shown: str | None = None, least: int | None = None) -> Any:
    """Return a dataclass field that is also a command-line option. The parameters are the fields of OptionFacts."""
    return dataclasses.field(default=default, metadata={OPTION: OptionFacts(help, name, shown, least)})


def split_names(values: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the names in the values of an option, which may be repeated and may separate names by commas.

    `split_names(["mlp,svm", "knn"])` returns `("mlp", "svm", "knn")`, and `split_names(None)` returns `()`.
    """
    listed = [values] if isinstance(values, str) else values or []
    return tuple(name.strip() for value in listed for name in value.split(",") if name.strip())


def options_from(
    config_type: type, shown: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that replaces the parameter `config` of a command by the options of `config_type`.

    Each field that was made by `option` becomes one option. `shown` has the texts that the help of this command shows
    as the defaults of some fields. A value that cannot be converted raises typer.BadParameter, which exits with code 2.
    """
    hints = get_type_hints(config_type)
    fields = [field for field in dataclasses.fields(config_type) if OPTION in field.metadata]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        others = [parameter for parameter in signature.parameters.values() if parameter.name != "config"]
        options = [_make_parameter(field, hints[field.name], (shown or {}).get(field.name)) for field in fields]
        position = list(signature.parameters).index("config")

        def run(**values: Any) -> None:
            settings = {field.name: _convert(field, hints[field.name], values.pop(field.name)) for field in fields}
            command(config=config_type(**settings), **values)

        run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
        # The options take the position of `config`. Python requires parameters without a default to come first.
        parameters = [*others[:position], *options, *others[position:]]
        parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
        keyword = inspect.Parameter.KEYWORD_ONLY
        run.__signature__ = inspect.Signature([p.replace(kind=keyword) for p in parameters])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _make_parameter(field: dataclasses.Field[Any], hint: Any, shown: str | None) -> inspect.Parameter:
    """Return the function parameter from which typer makes the option of a field.

    The type of the parameter is that of the field, with three exceptions: a tuple of names becomes an option that can
    be repeated, a tuple of numbers becomes text such as "256,128", and a number or a file becomes text.
    """
    import typer

    facts: OptionFacts = field.metadata[OPTION]
    info = typer.Option(_name(field), help=facts.help, show_default=shown or facts.shown or True, min=facts.least)
    kind, default = hint, field.default
    if hint == NUMBER_OR_FILE:
        kind, default, info.metavar, info.min = str, str(default), "NUMBER|FILE", None
    if get_origin(hint) is tuple:
        holds_names = get_args(hint)[0] is str
        kind = list[str] | None if holds_names else str
        default = None if holds_names else ",".join(map(str, cast("tuple[int, ...]", field.default))) or "none"
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def _name(field: dataclasses.Field[Any]) -> str:
    """Return the name of the option of a field."""
    facts: OptionFacts = field.metadata[OPTION]
    return facts.name or f"--{field.name.replace('_', '-')}"


def _convert(field: dataclasses.Field[Any], hint: Any, value: Any) -> Any:
    """Convert the value of an option to the type of its field."""
    import typer

    if hint == NUMBER_OR_FILE:
        return _number_or_file(field, value)
    if get_origin(hint) is not tuple:
        return value
    if get_args(hint)[0] is str:
        return split_names(value)
    try:
        return () if value.strip() == "none" else tuple(int(number) for number in split_names(value))
    except ValueError as error:
        message = f"got {_name(field)} {value}; wanted whole numbers, such as 256,128, or none."
        raise typer.BadParameter(message) from error


def _number_or_file(field: dataclasses.Field[Any], value: str) -> int | str:
    """Return the number or the path that the text of an option is. Raises BadParameter if the number is too small."""
    import typer

    if not re.fullmatch("[+-]?[0-9]{1,18}", value):
        return value
    least = field.metadata[OPTION].least
    if least is not None and int(value) < least:
        raise typer.BadParameter(f"got {_name(field)} {value}; wanted {least} or more, or a file.")
    return int(value)


def between_0_and_1(value: float | None) -> float | None:
    """An option's value, or None. Raises BadParameter, exit code 2, for a value outside (0, 1)."""
    import typer

    if value is not None and not 0 < value < 1:
        raise typer.BadParameter(f"got {value:g}; wanted a probability above 0 and below 1.")
    return value
