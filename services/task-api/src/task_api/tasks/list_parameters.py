"""The query parameters of a list of tasks, each with its limits."""

from typing import Annotated, Final

from fastapi import Query
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator

from chassis.pagination import MAX_BIGINT
from task_api.tasks.cursors import MAX_LIST_CURSOR_CHARS
from task_api.tasks.listing import TagMatch, TaskFilter, TaskListing, split_words
from task_api.tasks.models import Priority
from task_api.tasks.schemas import DueAt, Moment, Tag, without_nul
from task_api.tasks.sorting import Sort, SortKey, parse_sort

MAX_PAGE: Final = 200
MAX_OFFSET: Final = 1_000_000
MAX_QUERY_CHARS: Final = 200
MAX_QUERY_WORDS: Final = 10
MAX_FILTER_TAGS: Final = 10
_MAX_SORT_CHARS: Final = 100


ListCursorParameter = Annotated[
    str | None, Query(max_length=MAX_LIST_CURSOR_CHARS, description="`next_cursor` of the page before")
]


def _few_words(text: str) -> str:
    if len(split_words(text)) > MAX_QUERY_WORDS:
        raise ValueError(f"may have at most {MAX_QUERY_WORDS} words")
    return text


def _checked_sort(text: str) -> str:
    parse_sort(text)
    return text


EngagementParameter = Annotated[
    int | None,
    Query(ge=1, le=MAX_BIGINT, description="the engagement whose tasks are meant; without it one's own", examples=[5]),
]


def get_listing(  # noqa: PLR0913, PLR0917 (what a request may say)
    engagement_id: EngagementParameter = None,
    completed: Annotated[bool | None, Query(description="only completed, or only open tasks")] = None,
    priority: Annotated[list[Priority] | None, Query(max_length=3, description="one of these; repeat it")] = None,
    tag: Annotated[list[Tag] | None, Query(max_length=MAX_FILTER_TAGS, description="has this tag; repeat it")] = None,
    tag_match: Annotated[TagMatch, Query(description="all of the tags, or any of them")] = "all",
    due_after: Annotated[DueAt | None, Query(description="due at this moment or later")] = None,
    due_before: Annotated[DueAt | None, Query(description="due before this moment")] = None,
    overdue: Annotated[bool | None, Query(description="open and due before now; false: all others")] = None,
    updated_since: Annotated[Moment | None, Query(description="changed at this moment or later")] = None,
    q: Annotated[
        str | None,
        Query(
            max_length=MAX_QUERY_CHARS,
            description="words, each of which begins a word of title or description, or a tag",
        ),
        AfterValidator(without_nul),
        AfterValidator(_few_words),
    ] = None,
    parent_id: Annotated[int | None, Query(ge=1, le=MAX_BIGINT, description="subtasks of this task")] = None,
    top_level: Annotated[bool | None, Query(description="only tasks that are no subtasks, or only subtasks")] = None,
    sort: Annotated[
        str | None,
        Query(
            max_length=_MAX_SORT_CHARS,
            description=f"keys, the first decides first, `-` before one for descending: {', '.join(SortKey)}",
            examples=["-priority,due_at"],
        ),
        AfterValidator(_checked_sort),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="tasks on a page")] = 50,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="tasks to leave out first")] = 0,
    cursor: ListCursorParameter = None,
    total: Annotated[bool, Query(description="count all matching tasks too")] = False,
) -> TaskListing:
    """Read what a list request asks for."""
    sorts: tuple[Sort, ...] = () if sort is None else parse_sort(sort)
    if q is None and any(one.key is SortKey.RELEVANCE for one in sorts):
        message = "relevance needs q, a text to search"
        raise RequestValidationError([{"type": "value_error", "loc": ("query", "sort"), "msg": message}])
    matching = TaskFilter(
        engagement_id=engagement_id,
        completed=completed,
        priority=tuple(priority or ()),
        due_after=due_after,
        due_before=due_before,
        overdue=overdue,
        updated_since=updated_since,
        q=q,
        tags=tuple(tag or ()),
        tag_match=tag_match,
        parent_id=parent_id,
        top_level=top_level,
    )
    return TaskListing(matching=matching, sort=sorts, limit=limit, offset=offset, cursor=cursor, total=total)
