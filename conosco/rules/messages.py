"""What a refused condition is told, in English: one sentence for each code of ``parse.CODES``. Other languages are catalogues of the web."""

from typing import Final

from conosco.model.problem import Problem

MESSAGES: Final[dict[str, str]] = {
    "bounds_reversed": "The first bound is greater than the second: swap them.",
    "broken_reference": "The {kind} {key} cannot be used because its own definition has an error: mend it first.",
    "empty_list": "The list is empty: give at least one entry.",
    "empty_text": "The text is empty: fill it in.",
    "field_not_used": "{field} means nothing together with {test}: leave it out.",
    "missing_field": "{field} is missing.",
    "mixed_bounds": "One bound is a number and the other a date: give two of the same kind.",
    "not_built_yet": "{kind} cannot be used in conditions yet.",
    "number_does_not_fit": "The number is too large: at most 32 digits before the decimal point can be compared exactly.",
    "out_of_range": "The number must lie between {least} and {most}.",
    "pattern_refused": "The pattern uses {part}, which cannot be searched for reliably: look-around, back-references, named groups and "
    "inline options are not available.",
    "pattern_unreadable": "The pattern cannot be read: {reason}.",
    "reference_cycle": "The segments refer to one another in a ring ({ring}): take one of them out.",
    "too_deep": "The groups are nested too deeply: at most {limit} levels.",
    "too_long": "The text is too long: at most {limit} characters.",
    "too_many_conditions": "There are too many conditions, those of segments that are referred to included: at most {limit}.",
    "too_many_filters": "There are too many filters on one event: at most {limit}.",
    "too_many_parts": "The path is too long: at most {limit} names.",
    "too_many_values": "The list is too long: at most {limit} entries.",
    "unknown_aggregate": "There is no calculation called {aggregate}.",
    "unknown_attribute": "There is no attribute with the key {key}.",
    "unknown_field": "{field} is not known here.",
    "unknown_kind": "There is no condition of the kind {kind}.",
    "unknown_language": "The condition is written in version {language} of the language; version {known} is understood.",
    "unknown_namespace": "{namespace} cannot be a kind of identifier: use lower-case letters, digits and underscores.",
    "unknown_segment": "There is no segment with the key {key}.",
    "unknown_test": "There is no test called {test}.",
    "unknown_type": "There is no call of the type {type}.",
    "unreadable_duration": "{value} is not a duration: write a number and s, m, h, d or w, such as 30d.",
    "unreadable_moment": "{value} is not a date or a time: write it like 2026-01-31 or 2026-01-31T10:00:00Z.",
    "unreadable_text": "The text contains a character that cannot be stored.",
    "wrong_type": "This must be {expected}.",
}
EXPECTED: Final[dict[str, str]] = {
    "boolean": "true or false",
    "list": "a list",
    "number_or_moment": "a number or a date",
    "object": "an object",
    "text": "a text",
    "text_number_or_boolean": "a text, a number, or true or false",
    "two_bounds": "a list of two bounds",
    "whole_number": "a whole number",
}


def say(problem: Problem) -> str:
    """The sentence for a problem of ``parse``, with the nearest known name if there is one. Raises KeyError for other codes."""
    params = dict(problem.params)
    if problem.code == "wrong_type":
        params["expected"] = EXPECTED[str(params["expected"])]
    sentence = MESSAGES[problem.code].format_map(params)
    return f"{sentence} Did you mean {params['nearest']}?" if "nearest" in params else sentence
