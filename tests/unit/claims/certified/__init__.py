"""Tests of claims.certified: the same quantities in ball arithmetic."""
