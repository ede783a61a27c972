"""The packed engine: wav2vec 2.0 and its relatives over clips of any lengths, without padding.

`packed` is the encoder, `network` the network, and `families` what differs from one family of networks to another.
"""
