"""Who may do what with dead letters: a route's signature names its guard."""

from typing import Annotated, Final

from fastapi import Depends

from chassis.errors import ForbiddenError
from chassis.identity import CurrentUser, Principal

OPERATORS: Final = ("admin",)


def get_operator(user: CurrentUser) -> Principal:
    """Give a route its caller, who must be an operator: dead letters hold everybody's tasks.

    Raises:
        ForbiddenError: The caller is none.
    """
    if not user.has_any_role(*OPERATORS):
        raise ForbiddenError("Dead letters are for role admin.")
    return user


DeadLetterRead = Annotated[Principal, Depends(get_operator)]
DeadLetterWrite = Annotated[Principal, Depends(get_operator)]
