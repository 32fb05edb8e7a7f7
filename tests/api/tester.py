"""What the property tester cannot know from the document, so that it takes no right refusal for a fault.

Loaded by schemathesis (see schemathesis.toml). Only refusals of requests that fit the document are looked at here, each by its
kind and its words; every other failure stays one.
"""

import itertools

import schemathesis
from schemathesis.openapi.checks import EnsureResourceAvailability, RejectedPositiveData

KEY = "Idempotency-Key"

# Rules between members of one request, of the clock, or for what is still to come: JSON Schema has no words for them, and the
# descriptions in the document tell them.
RULES = (
    "Give either `items`, or `filter` with `as_of`.",
    "Give either `alert_id`, or `rule` and `entity`.",
    "Closing ",
    "`close_alerts` goes with `status: closed`",
    "The body changes nothing",
    "This alert is about no entity",
    "`until` must be in the future",
    "Nothing is known of that time.",
)
PARTS = (
    "is no place in commit order",
    "yet; the newest is",
    # JSON Schema takes 1.0 for a whole number; numbers of cases and versions are written as such.
    "invalid type: floating point",
)

numbers = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Changes what cannot be made up; only in requests that are to be right."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    # A key of its own for each request: it sends some again, and with its key a request is answered as the first time.
    key = (case.headers or {}).get(KEY)
    if key:
        number = f"-{next(numbers)}"
        case.headers[KEY] = key[: 200 - len(number)] + number
    # A cursor is one that the same list gave out; with another the rest of the request would not be looked at.
    if case.query:
        case.query.pop("cursor", None)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """True keeps a failure."""
    if isinstance(failure, EnsureResourceAvailability):
        # Something else is not there, which the body names.
        detail = response.json()["detail"]
        return any(f"`{value}`" in detail for value in case.path_parameters.values())
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 400:
        return True
    detail = response.json()["detail"]
    return not (detail.startswith(RULES) or any(part in detail for part in PARTS))
