"""The cache: content keys, HDF5 shards, stores, and the extraction loop that fills them.

May import: `encoders`, `audio`, `files` and the modules directly in `embedcache`. `shard.py` alone imports h5py.
"""
