"""How a tag classifier is trained: all that can be chosen, checked."""

from dataclasses import dataclass

from grounding.limits import check_limits
from train.loading import View


@dataclass(frozen=True)
class TagTraining:
    """How a tag classifier is trained; the defaults are the paper's.

    Args:
        trained: ``all`` of the network, its ``head`` alone (over features computed once), or the path of a module from
            which on weights are trained, those below it frozen.
        epochs: passes through the data.
        batch: photos of a step, of all processes together.
        parts: in which a batch is computed one after another, to save memory.
        optimiser: ``sgd`` or ``adamw``.
        rate: learning rate at the start (``plateau``) or at its highest (``cosine``).
        head_rate: how many times higher the rate of the new head is.
        momentum: of ``sgd``.
        decay: of weights.
        schedule: ``plateau``: a tenth of the rate whenever the validation loss has stopped falling; ``cosine``: up for
            the first tenth of all steps, then down to nothing.
        patience: validations without a lower loss that ``plateau`` bears.
        clip: the largest norm of a gradient; None for any.
        resize: see `train.loading.View`.
        crop: see `train.loading.View`.
        views: of each photo whose features are kept, with ``trained=head``.
        batch_norm: ``train``: statistics follow the batches; ``frozen``: they stay as they are.
        averaging: of weights over steps, such as 0.999; 0 for none.
        precision: ``single``, ``bfloat16``, or ``auto``: half where a GPU is fast at it.
        compile: with `torch.compile`.
        tensorboard: write its files, too.
        workers: processes that decode photos, for each process that trains; None: as there are cores.
        validate_every: steps; None: at the end of each epoch.
        save_every: steps after which a stopped run goes on.
        half: whether the checkpoint's weights are in half precision.
        seed: of all that is random.
    """

    trained: str = "all"
    epochs: int = 3
    batch: int = 64
    parts: int = 1
    optimiser: str = "sgd"
    rate: float = 0.01
    head_rate: float = 1.0
    momentum: float = 0.9
    decay: float = 2e-4
    schedule: str = "plateau"
    patience: int = 0
    clip: float | None = None
    resize: tuple[int, int] = (256, 256)
    crop: int = 224
    views: int = 4
    batch_norm: str = "train"
    averaging: float = 0.0
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
            epochs=(self.epochs, 1, 100_000),
            batch=(self.batch, 1, 1_000_000),
            parts=(self.parts, 1, 10_000),
            rate=(self.rate, 1e-12, 1000),
            head_rate=(self.head_rate, 1e-6, 1e6),
            momentum=(self.momentum, 0, 1),
            decay=(self.decay, 0, 10),
            views=(self.views, 1, 10_000),
            patience=(self.patience, 0, 10_000),
            averaging=(self.averaging, 0, 1),
            save_every=(self.save_every, 1, 10**9),
            validate_every=(1 if self.validate_every is None else self.validate_every, 1, 10**9),
            workers=(0 if self.workers is None else self.workers, 0, 1000),
            clip=(1 if self.clip is None else self.clip, 1e-9, 1e9),
            seed=(self.seed, 0, 2**31),
        )
        for name, choices in {
            "optimiser": ("sgd", "adamw"),
            "schedule": ("plateau", "cosine"),
            "batch_norm": ("train", "frozen"),
            "precision": ("auto", "single", "bfloat16"),
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"training.{name} must be {' or '.join(choices)}, got {getattr(self, name)!r}")
        if len(self.resize) != 2:
            raise ValueError(f"training.resize must be two sides in pixels, got {list(self.resize)}")
        _ = self.view

    @property
    def view(self) -> View:
        return View((self.resize[0], self.resize[1]), self.crop)
