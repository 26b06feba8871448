"""Distillation: a student learns from a teacher, encoders first, then through the fusion, then labels."""
