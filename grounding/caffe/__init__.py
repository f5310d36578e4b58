"""The networks of Caffe's Model Zoo that the paper used, and a reader of their weights that needs no Caffe.

| file | content |
|---|---|
| ``networks.py`` | CNN-S, GoogLeNet, VGG16 and ResNet-50 as Caffe defines them |
| ``caffemodel.py`` | a ``.caffemodel`` file as layers and their arrays |
| ``weights.py`` | which array belongs where in a network |
| ``classifier.py`` | the classifier of a network, its weights and Caffe's preparation of photos |
"""
