"""One training run: recipe, loop, evaluation, distribution, and files of weights that know what they belong to.

What the package offers is loaded when it is first used: a recipe is read without torch.
"""

from typing import TYPE_CHECKING

from ctnet.lazy import loaded_when_used

if TYPE_CHECKING:
    from ctnet.engine.checkpoint import convert_official, load_init, load_model, load_recipe, save_model
    from ctnet.engine.evaluation import ClassResult, Scores, evaluate, fuse, predict
    from ctnet.engine.loading import Batches, View, eval_data, train_data
    from ctnet.engine.place import Place, distributed
    from ctnet.engine.preparation import choose_precision
    from ctnet.engine.recipe import RECIPES, Recipe, get_recipe
    from ctnet.engine.testing import Tested, score_files
    from ctnet.engine.training import train
    from ctnet.engine.version import VERSION

__all__ = [
    "RECIPES",
    "VERSION",
    "Batches",
    "ClassResult",
    "Place",
    "Recipe",
    "Scores",
    "Tested",
    "View",
    "choose_precision",
    "convert_official",
    "distributed",
    "eval_data",
    "evaluate",
    "fuse",
    "get_recipe",
    "load_init",
    "load_model",
    "load_recipe",
    "predict",
    "save_model",
    "score_files",
    "train",
    "train_data",
]

__getattr__ = loaded_when_used(
    __name__,
    {
        "checkpoint": ("convert_official", "load_init", "load_model", "load_recipe", "save_model"),
        "place": ("Place", "distributed"),
        "evaluation": ("ClassResult", "Scores", "evaluate", "fuse", "predict"),
        "loading": ("Batches", "View", "eval_data", "train_data"),
        "preparation": ("choose_precision",),
        "recipe": ("RECIPES", "Recipe", "get_recipe"),
        "testing": ("Tested", "score_files"),
        "training": ("train",),
        "version": ("VERSION",),
    },
)
