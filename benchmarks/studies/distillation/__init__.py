"""Distillation of SAC teachers: knowledge distillation, behaviour cloning, and ADPO with each anchor and both targets."""
