"""The hyperparameters of a tag classifier's training."""

from dataclasses import dataclass

from grounding.limits import check_limits
from grounding.models import AVERAGE, POOLINGS, Pooling
from train.views import View, check_view

CHOICES = {
    "pooling": POOLINGS,
    "optimiser": ("sgd", "adamw"),
    "schedule": ("plateau", "cosine", "constant"),
    "batch_norm": ("train", "frozen"),
    "precision": ("auto", "single", "bfloat16"),
}


@dataclass(frozen=True)
class TagTraining:
    """Hyperparameters of a tag classifier's training; the defaults are the paper's where it names them (6.3.1).

    Args:
        trained: ``all`` of the network, its ``head`` alone (over features that are computed once), or the path of the
            module from which on weights are trained; those below stay as they are.
        pooling: ``average``: the head sees the mean over places of the last map. ``lse`` and ``attention``: it sees
            every place, and its responses there are pooled (see `grounding.pooling`).
        sharpness: r of ``lse`` and ``attention``: near 0 they are the average, and for a great r the maximum.
        distil: with ``keep``, where more than the head is trained: weight of the divergence between the responses of
            the model's own units before and in training, which keeps their features from drifting.
        contrast: weight of the loss of phrases of captions against the other photos of the batch (see
            `train.contrast`); it needs phrases in the data.
        epochs: passes through the data.
        stop_at_plateau: end before, at a validation, where the mean training loss since the validation before is not
            lower by this share than the lowest so far; None: after all epochs.
        batch_size: photos in a step, of all processes together.
        accumulation_steps: number of parts in which a batch is computed one after the other, to save memory.
        optimiser: ``sgd`` or ``adamw``.
        learning_rate: at the start (``plateau``, ``constant``) or at its highest (``cosine``).
        head_learning_rate_factor: the learning rate of the new head, relative to ``learning_rate``.
        momentum: momentum of ``sgd``.
        weight_decay: weight decay of the optimiser.
        schedule: ``plateau``: divide the learning rate by ten whenever the validation loss has stopped falling;
            ``cosine``: raise it linearly for the first tenth of all steps, then lower it to 0 along a cosine;
            ``constant``: leave it as it is.
        patience: number of validations without a lower loss after which ``plateau`` still waits.
        clip: highest norm of the gradient; None: no limit.
        resize: see `train.views.View`.
        crop: see `train.views.View`.
        colour: see `train.views.View`.
        views: random views of each photo whose features are computed, with ``trained=head``.
        batch_norm: ``train``: its statistics follow the batches; ``frozen``: they stay as they are.
        ema_decay: decay of the running average of weights over steps, such as 0.999; 0: no average.
        precision: ``single``, ``bfloat16``, or ``auto``: bfloat16 on a GPU that computes with it, else single.
        compile: use `torch.compile`.
        tensorboard: also write TensorBoard's files.
        workers: processes that decode photos, for each training process; None: one for each core but one.
        validate_every: steps between validations; None: one at the end of each epoch.
        save_every: steps between saved states, from which a stopped run is resumed.
        half: write the checkpoint's weights in half precision.
        seed: determines everything that is random.
    """

    trained: str = "all"
    pooling: str = "average"
    sharpness: float = 1.0
    distil: float = 0.0
    contrast: float = 0.0
    epochs: int = 3
    stop_at_plateau: float | None = None
    batch_size: int = 64
    accumulation_steps: int = 1
    optimiser: str = "sgd"
    learning_rate: float = 0.01
    head_learning_rate_factor: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 2e-4
    schedule: str = "plateau"
    patience: int = 0
    clip: float | None = None
    resize: tuple[int, int] = (256, 256)
    crop: int = 224
    colour: float = 0.0
    views: int = 4
    batch_norm: str = "train"
    ema_decay: float = 0.0
    precision: str = "auto"
    compile: bool = False
    tensorboard: bool = False
    workers: int | None = None
    validate_every: int | None = None
    save_every: int = 500
    half: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_limits(
            "training",
            sharpness=(self.sharpness, 1e-3, 1e3),
            distil=(self.distil, 0, 1e6),
            contrast=(self.contrast, 0, 1e6),
            colour=(self.colour, 0, 1),
            epochs=(self.epochs, 1, 100_000),
            stop_at_plateau=(0 if self.stop_at_plateau is None else self.stop_at_plateau, 0, 0.9),
            batch_size=(self.batch_size, 1, 1_000_000),
            accumulation_steps=(self.accumulation_steps, 1, 10_000),
            learning_rate=(self.learning_rate, 1e-12, 1000),
            head_learning_rate_factor=(self.head_learning_rate_factor, 1e-6, 1e6),
            momentum=(self.momentum, 0, 1),
            weight_decay=(self.weight_decay, 0, 10),
            views=(self.views, 1, 10_000),
            patience=(self.patience, 0, 10_000),
            ema_decay=(self.ema_decay, 0, 1),
            save_every=(self.save_every, 1, 10**9),
            validate_every=(1 if self.validate_every is None else self.validate_every, 1, 10**9),
            workers=(0 if self.workers is None else self.workers, 0, 1000),
            clip=(1 if self.clip is None else self.clip, 1e-9, 1e9),
            seed=(self.seed, 0, 2**31),
        )
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"training.{name} must be {' or '.join(choices)}, got {getattr(self, name)!r}")
        check_view(self.resize, self.crop)

    @property
    def view(self) -> View:
        """The view of photos for training."""
        return View((self.resize[0], self.resize[1]), self.crop, self.colour)

    @property
    def place_pooling(self) -> Pooling:
        """The pooling of responses at places, as a checkpoint records it."""
        return Pooling(self.pooling, self.sharpness) if self.pooling != "average" else AVERAGE
