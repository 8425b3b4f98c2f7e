"""Trains a multi-exit network; this and what splits it import torch, nothing else does."""
