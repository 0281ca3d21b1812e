"""The language-model side; imports ticgrpo_theory, never the other way round."""
