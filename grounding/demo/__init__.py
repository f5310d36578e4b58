"""A page in the browser that grounds captions in photos, by Gradio."""
