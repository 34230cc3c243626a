"""Who may do what with comments: a route's signature names its guard."""

from typing import Annotated

from fastapi import Depends

from chassis.identity import Principal, get_current_user

# Ownership is part of every statement (`repository`); these say what a credential must allow.
CommentRead = Annotated[Principal, Depends(get_current_user)]
CommentWrite = Annotated[Principal, Depends(get_current_user)]
