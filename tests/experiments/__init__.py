"""Every script of experiments/, the notebooks, and the pages that quote them."""
