"""Models by Hugging Face id, through `huggingface_hub` (extra `hub`): the only place that asks the
hub for anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lucidlm.errors import CheckpointError, MissingExtra

_FILES: Final = [
    "*.json",
    "*.safetensors",
    "*.gguf",
    "*.model",
    "*.spm",
    "*.jinja",
    "*.template",
    "*.txt",
]


def fetch_from_hub(repo_id: str, revision: str | None = None) -> Path:
    """The folder of the model in the hub's own cache, fetched where it is not there; weights as
    safetensors or GGUF only.

    Asks the hub, so that a cached copy is of the newest revision; without network the cached copy
    is taken as it is.

    Raises MissingExtra without `huggingface_hub`, CheckpointError for an unknown id, a gated model,
    or no network.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        raise MissingExtra("hub", "Hugging Face Hub") from None
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=_FILES))
    except GatedRepoError:
        raise CheckpointError("checkpoint.hub_gated", name=repo_id) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise CheckpointError("checkpoint.hub_unknown", name=repo_id) from None
    except RevisionNotFoundError:
        raise CheckpointError("checkpoint.hub_revision", name=repo_id, revision=revision) from None
    except (LocalEntryNotFoundError, ConnectionError):
        raise CheckpointError("checkpoint.hub_no_network", name=repo_id) from None
    except OSError as error:  # the hub's HTTP and cache errors among them
        raise CheckpointError(
            "checkpoint.hub_failed", name=repo_id, reason=_first_line(error)
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
