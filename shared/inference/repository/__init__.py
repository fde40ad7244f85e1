"""The models of one service: which lie on disk, how they are loaded and checked, which of them answer."""
