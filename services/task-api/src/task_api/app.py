"""Puts task-api together."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from chassis.accounts import publishing_dapr_app, subscribe_to_accounts
from chassis.erased_subjects import ErasedSubjects
from chassis.paths import API_PREFIX
from chassis.publisher import DaprPublisher
from chassis.service import create_service
from task_api.api_keys.authenticator import ApiKeyAuthenticator
from task_api.api_keys.introspection import router as introspection_router
from task_api.api_keys.routes import router as api_keys_router
from task_api.api_keys.service import ApiKeys
from task_api.api_keys.upkeep import ending_streams, forgetting_keys
from task_api.api_keys.uses import KeyUses
from task_api.calendar_feeds.routes import router as calendar_feeds_router
from task_api.calendar_feeds.service import CalendarFeeds
from task_api.comments.intake import CommentIntake
from task_api.comments.routes import router as comments_router
from task_api.comments.service import CommentService
from task_api.engagements.ending import EngagementEnding
from task_api.engagements.invitation_routes import router as invitations_router
from task_api.engagements.invitations import InvitationService
from task_api.engagements.membership import router as membership_router
from task_api.engagements.routes import router as engagements_router
from task_api.engagements.service import EngagementService
from task_api.erasure.gate import AccountErasedError, ErasedGate, ending_streams_of_erased, install_refusal
from task_api.erasure.routes import router as erasure_router
from task_api.erasure.saga import Pace, Saga
from task_api.erasure.service import Confirmations, Erasures
from task_api.history.recorder import CompletionRecorder
from task_api.history.routes import router as history_router
from task_api.history.service import HistoryService
from task_api.idempotency.dependencies import install_replay
from task_api.idempotency.service import Idempotency, forgetting_expired_keys
from task_api.outbox.relay import Relay
from task_api.outbox.service import Outbox
from task_api.portability.exporting import TaskExport
from task_api.portability.importing import TaskImport
from task_api.portability.routes import IMPORT_PATH
from task_api.portability.routes import router as portability_router
from task_api.portability.transfers import Transfers
from task_api.purge.service import Purge, purging_deleted_tasks
from task_api.quick_add.routes import router as quick_add_router
from task_api.quick_add.service import QuickAdd
from task_api.route_budgets import ROUTE_BUDGETS
from task_api.settings import TaskApiSettings
from task_api.sync.cursors import CursorCodec
from task_api.sync.live import LiveFeed
from task_api.sync.routes import router as sync_router
from task_api.sync.service import SyncService
from task_api.sync.stream import ChangeStreams
from task_api.tasks.bulk import TaskBulk
from task_api.tasks.bulk_routes import BULK_PATH
from task_api.tasks.bulk_routes import router as bulk_router
from task_api.tasks.clearance import TaskClearance
from task_api.tasks.cursors import ListCursors
from task_api.tasks.intake import TaskIntake
from task_api.tasks.retention import Retention
from task_api.tasks.routes import router as tasks_router
from task_api.tasks.service import TaskService
from task_api.users.exporting import AccountExport
from task_api.users.routes import router as users_router
from task_api.users.service import Profiles
from task_events.topics import ACCOUNT_CONFIRMATIONS_TOPIC


def create_app(settings: TaskApiSettings) -> FastAPI:
    """Make the application; its lifespan runs the relay and looks for changes on behalf of open streams."""
    idempotency = Idempotency(lifetime=settings.idempotency_lifetime)
    retention = Retention(days=settings.task_retention_days)
    cursors = ListCursors(settings.cursor_key)
    erased = ErasedSubjects(settings.erasure_key)

    @asynccontextmanager
    async def relaying(app: FastAPI) -> AsyncIterator[None]:
        publisher = DaprPublisher(
            http_port=settings.dapr_http_port,
            grpc_port=settings.dapr_grpc_port,
            api_token=settings.dapr_api_token.get_secret_value(),
            timeout=settings.relay_publish_timeout,
        )
        relay = Relay(
            app.state.database,
            publisher,
            batch_size=settings.relay_batch_size,
            poll_interval=settings.relay_poll_interval,
            publish_timeout=settings.relay_publish_timeout,
        )
        live = LiveFeed(
            app.state.database,
            poll_interval=settings.stream_poll_interval,
            per_user=settings.streams_per_user,
            per_replica=settings.streams_per_replica,
        )
        sync = SyncService(CursorCodec(settings.cursor_key), cursor_days=settings.sync_cursor_days)
        outbox = Outbox(relay, live, recorder=CompletionRecorder())
        tasks = TaskService(outbox, cursors, retention)
        app.state.task_service, app.state.task_bulk = tasks, TaskBulk(outbox, retention)
        app.state.history_service = HistoryService(tasks, cursors)
        ending = EngagementEnding(app.state.database, TaskClearance(outbox))
        app.state.engagement_service, app.state.invitation_service = EngagementService(ending), InvitationService()
        app.state.comment_service = CommentService(tasks, cursors)
        app.state.calendar_feeds = CalendarFeeds(app.state.database)
        app.state.api_keys, uses = ApiKeys(settings.peppers, cursors), KeyUses()
        app.state.api_key_authenticator = ApiKeyAuthenticator(app.state.database, settings.peppers, uses)
        app.state.authenticators.insert(0, app.state.api_key_authenticator)
        app.state.task_export = TaskExport(app.state.database)
        app.state.transfers = Transfers(
            per_user=settings.transfers_per_user, per_replica=settings.transfers_per_replica
        )
        app.state.task_import = importing = TaskImport(
            app.state.database,
            TaskIntake(outbox),
            CommentIntake(),
            max_tasks=settings.import_max_tasks,
            stall_timeout=settings.import_stall_timeout,
            lifetime=settings.idempotency_lifetime,
        )
        app.state.sync_service, app.state.live_feed = sync, live
        app.state.change_streams = ChangeStreams(app.state.database, sync, live, heartbeat=settings.stream_heartbeat)
        app.state.at_stop.append(live.end_streams)
        keys = settings.keyring
        app.state.profiles, app.state.account_export = Profiles(keys), AccountExport(app.state.database, keys)
        app.state.quick_add = QuickAdd(tasks, app.state.profiles, app.state.database)
        app.state.account_gate = gate = ErasedGate(app.state.database, erased, trusted_for=settings.erasure_settle / 2)
        app.state.erasures = Erasures(outbox, erased, gate, app.state.engagement_service)
        pace = Pace(settings.erasure_settle, settings.erasure_ask_again, settings.erasure_alarm)
        saga = Saga(app.state.database, outbox, pace)
        try:
            async with AsyncExitStack() as stack:
                for background in (
                    relay.running(),
                    live.running(),
                    forgetting_expired_keys(idempotency, app.state.database),
                    importing.forgetting(),
                    purging_deleted_tasks(Purge(retention), app.state.database),
                    ending.running(),
                    gate.reading(),
                    saga.running(),
                    uses.writing(app.state.database),
                    forgetting_keys(app.state.database),
                    ending_streams(app.state.database, live),
                    ending_streams_of_erased(gate, live),
                ):
                    await stack.enter_async_context(background)
                yield
        finally:
            await publisher.close()

    app = create_service(
        settings,
        package="task_api",
        api_version="1.1",
        title="Taskwire task-api",
        description="Authenticated CRUD over tasks. Every change is an event on the `tasks` topic.",
        # In this order: neither `/tasks/changes` nor the other paths that are written out are of a task's id.
        routers=[
            sync_router,
            bulk_router,
            quick_add_router,
            portability_router,
            tasks_router,
            history_router,
            comments_router,
            calendar_feeds_router,
            invitations_router,
            engagements_router,
            users_router,
            erasure_router,
            api_keys_router,
        ],
        body_limits={
            API_PREFIX + BULK_PATH: settings.bulk_max_body_bytes,
            API_PREFIX + IMPORT_PATH: settings.import_max_body_bytes,
        },
        background=relaying,
    )
    app.include_router(introspection_router)
    app.include_router(membership_router)
    install_replay(app, idempotency)
    app.state.rate_limits.give(ROUTE_BUDGETS)
    install_refusal(app)
    app.state.refusal_of_erased = AccountErasedError
    subscribe_to_accounts(
        publishing_dapr_app(app),
        app_api_token=settings.app_api_token.get_secret_value(),
        handle=Confirmations(app.state.database, erased).handle,
        topic=ACCOUNT_CONFIRMATIONS_TOPIC,
    )
    return app
