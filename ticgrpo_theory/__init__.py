"""Policy-gradient estimators of language-model training, measured without sampling noise."""
