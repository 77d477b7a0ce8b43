"""The web page of ``escnet-d2 web``; only ``page`` imports Gradio."""
