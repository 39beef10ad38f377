"""Every program of the documentation: ``fastws run docs.programs.NAME:app`` runs one."""
