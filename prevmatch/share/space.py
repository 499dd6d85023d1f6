"""A Gradio Space for a model: a folder that runs as it is, with this package's code inside it."""

import shutil
from pathlib import Path

from huggingface_hub import SpaceCardData

import prevmatch
from prevmatch.errors import ConfigError
from prevmatch.writing import replace_folder

TEMPLATES = Path(__file__).parent / "templates"
GRADIO = "6.31.0"
"""The version that app.py was tried with."""


def write_space(repo_id: str, folder: Path, license: str | None = None) -> Path:
    """Write app.py, requirements.txt, README.md and the package itself into `folder`, which is replaced as a whole.

    The app segments uploaded photos with the model `repo_id` and shows the classes over them. Returns the folder.
    Raises ConfigError if the folder holds anything but an earlier Space.
    """
    earlier = (folder / "app.py").is_file() and (folder / "prevmatch").is_dir()
    if folder.exists() and not earlier and (folder.is_file() or any(folder.iterdir())):
        raise ConfigError(f"{folder} holds other things than a Space and is not replaced; choose another --output_dir")
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
    with replace_folder(folder) as aside:
        (aside / "app.py").write_text((TEMPLATES / "app.py").read_text().replace("user/name", repo_id))
        shutil.copy(TEMPLATES / "requirements.txt", aside)
        (aside / "README.md").write_text(
            f"---\n{card.to_yaml()}\n---\n\nSegments photos with [{repo_id}](https://huggingface.co/{repo_id}).\n"
            "A private model needs a token with read access as the Space's secret `HF_TOKEN`.\n"
        )
        shutil.copytree(package, aside / "prevmatch", ignore=shutil.ignore_patterns("__pycache__"))
    return folder
