"""A Gradio Space for a model: a folder that runs as it is, with this package's code inside it."""

from pathlib import Path

from huggingface_hub import SpaceCardData

import prevmatch
from prevmatch.errors import ConfigError
from prevmatch.ownership import OwnFiles
from prevmatch.share.pages import TEMPLATES

GRADIO = "6.31.0"
"""The version that app.py was tried with."""


def write_space(repo_id: str, folder: Path, license: str | None = None, *, overwrite: bool = False) -> Path:
    """Write app.py, requirements.txt, README.md and the package itself into `folder`; what else is there stays.

    The app segments uploaded photos with the model `repo_id` and shows the classes over them. Returns the folder.
    Files of an earlier Space are replaced, or removed where there are none of that name any more. Raises ConfigError
    if other files would be replaced and `overwrite` does not say so, or the folder cannot be written.
    """
    card = SpaceCardData(
        title=repo_id.rpartition("/")[2],
        emoji="🧩",
        colorFrom="blue",
        colorTo="green",
        sdk="gradio",
        sdk_version=GRADIO,
        python_version="3.12",
        app_file="app.py",
        license=license,
        models=[repo_id],
    )
    package = Path(prevmatch.__file__).parent
    app = (TEMPLATES / "app.py").read_text().replace("user/name", repo_id)
    readme = (
        f"---\n{card.to_yaml()}\n---\n\nSegments photos with [{repo_id}](https://huggingface.co/{repo_id}).\n"
        "A private model needs a token with read access as the Space's secret `HF_TOKEN`.\n"
    )
    content = {
        "app.py": app.encode(),
        "README.md": readme.encode(),
        "requirements.txt": (TEMPLATES / "requirements.txt").read_bytes(),
    }
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content[f"prevmatch/{path.relative_to(package).as_posix()}"] = path.read_bytes()
    own = OwnFiles(folder, overwrite=overwrite)
    try:
        if not own.names and not overwrite and any(not path.name.startswith(".") for path in _inside(folder)):
            raise ConfigError(f"{folder} holds other things than a Space; choose another --output_dir")
        own.require(folder / name for name in content)
        for name in own.names - content.keys():
            if own.has(folder / name):
                (folder / name).unlink()
        for name, text in content.items():
            own.write(folder / name, text)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error}); choose another --output_dir") from error
    return folder


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []
