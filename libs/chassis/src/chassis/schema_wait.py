"""Waiting until a database has the schema that its service needs: what a pod does before its containers start."""

import asyncio
from typing import Final

from chassis.database import open_database
from chassis.errors import ApiError
from chassis.health import CHECK_TIMEOUT, NotReadyError, database_check
from chassis.logging import get_logger
from chassis.settings import ServiceSettings

_BETWEEN_LOOKS: Final = 1.0
_logger = get_logger(__name__)


def wait_for_schema(package: str, settings: ServiceSettings) -> None:
    """Return when somebody else's `migrate` has done its work; however long that takes, as nothing is served meanwhile.

    Args:
        package: Import name of the service; its `migrations` say what is needed.
        settings: Of the service.
    """
    asyncio.run(_wait(package, settings))


async def _wait(package: str, settings: ServiceSettings) -> None:
    database = open_database(settings, application_name=f"{package.replace('_', '-')} waiting")
    check, told = database_check(database, package), ""
    try:
        while True:
            try:
                async with asyncio.timeout(CHECK_TIMEOUT):
                    await check()
            except TimeoutError:
                why = f"no answer within {CHECK_TIMEOUT:.0f} s"
            except ApiError as error:
                why = error.detail
            except NotReadyError as error:
                why = str(error)
            else:
                _logger.info("the schema is as needed")
                return
            if why != told:
                _logger.info("waiting for the schema", because=why)
                told = why
            await asyncio.sleep(_BETWEEN_LOOKS)
    finally:
        await database.close()
