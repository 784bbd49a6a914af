"""Language models: learn the voice of a text from a pretrained network, and talk in it."""
