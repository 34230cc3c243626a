"""Who may do what with dead letters: a route's signature names its guard."""

from typing import Annotated

from chassis.errors import ForbiddenError
from chassis.identity import Permission, Principal, requires

# Operators only: dead letters hold everybody's tasks.
DeadLetterRead = Annotated[Principal, requires(Permission.DEAD_LETTERS_READ, refusal=ForbiddenError)]
DeadLetterWrite = Annotated[Principal, requires(Permission.DEAD_LETTERS_WRITE, refusal=ForbiddenError)]
