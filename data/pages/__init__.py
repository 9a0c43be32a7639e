"""What our HTML pages share: one self-contained page, its charts and its thumbnails."""
