"""Checkpoints: a trained classifier in one folder.

| file | content |
|---|---|
| ``model.safetensors`` | the weights, without those that are packaged; the metrics as metadata |
| ``vocabulary.tsv`` | words and their output units (see `grounding.vocabulary.read_vocabulary`) |
| ``settings.json`` | architecture, normalisation, attention layer, pooling and hyperparameters (`CheckpointSettings`) |
| ``metrics.json`` | quality of the classifier |

All of them hold weights and plain values. Nothing is unpickled, and nothing is imported by a name in a checkpoint.
"""

from grounding.checkpoint.loading import load_checkpoint
from grounding.checkpoint.saving import save_checkpoint
from grounding.checkpoint.settings import CheckpointSettings

__all__ = ["CheckpointSettings", "load_checkpoint", "save_checkpoint"]
