"""Results as tables: on the console, in files, in Markdown and as a picture. All numbers are in per cent."""
