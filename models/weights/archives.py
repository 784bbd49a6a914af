"""Take one file out of a downloaded archive."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from pathlib import Path

from touchline.models.errors import WeightsError


def keep_member(archive: Path, member: str) -> None:
    """Replace a .tgz archive by one of its files. Nothing else of it is written.

    Args:
        archive: The archive; afterwards the file.
        member: The path of the file in the archive.

    Raises:
        WeightsError: The archive is damaged, or does not have the file.
    """
    kept = archive.with_name(archive.name + ".member")
    try:
        with tarfile.open(archive, "r:gz") as files, kept.open("wb") as target:
            source = files.extractfile(member)
            if source is None:
                raise KeyError(member)
            shutil.copyfileobj(source, target)
        kept.replace(archive)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise WeightsError(archive, f"a damaged archive ({error})") from None
    except KeyError:
        raise WeightsError(archive, f"the archive has no file {member}") from None
    finally:
        kept.unlink(missing_ok=True)
