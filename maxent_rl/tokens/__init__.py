"""Post-training at the scale of language models: policies over tokens, their statistics and their losses."""
