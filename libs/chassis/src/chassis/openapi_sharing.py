"""Errors that several operations answer with, said once in an OpenAPI document.

Each operation names all errors it may answer with, and most are the same everywhere: written out they are two thirds
of the document, which every docs page and every code generator has to load.
"""

import json
from collections import Counter
from typing import Any, Final

from chassis.errors import MEDIA_TYPE

Json = dict[str, Any]

_METHODS: Final = {"get", "put", "post", "patch", "delete"}
_REFERENCE: Final = "#/components/responses/{name}"


def share_errors(document: Json) -> None:
    """Move each error that is described twice or more, word for word, to the components.

    It is called after its codes: `TaskForbiddenOrPermissionDenied`. Of several with the same codes, as those that give
    an operation's own field for an example, the one described most often is shared and the others stay where they are.
    """
    described = [responses for item in document["paths"].values() for responses in _responses(item)]
    times = Counter(_text(answer) for responses in described for answer in responses.values())
    shared: dict[str, str] = {}
    for text, count in times.most_common():
        codes = _codes(json.loads(text))
        if count > 1 and codes:
            shared.setdefault("Or".join(code.title().replace("_", "") for code in codes), text)
    names = {text: name for name, text in shared.items()}
    for responses in described:
        for status, answer in responses.items():
            name = names.get(_text(answer))
            if name is not None:
                responses[status] = {"$ref": _REFERENCE.format(name=name)}
    document["components"]["responses"] = {name: json.loads(shared[name]) for name in sorted(shared)}


def _responses(item: Json) -> list[Json]:
    return [operation["responses"] for method, operation in item.items() if method in _METHODS]


def _codes(answer: Json) -> list[str]:
    return sorted(answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}))


def _text(answer: Json) -> str:
    return json.dumps(answer)
