"""Segments one photo: python segment_photo.py photo.jpg "person, dog|puppy, grass" [WEIGHTS]."""

import sys

from escnet_d2 import OpenVocabPredictor

photo, names, *weights = sys.argv[1:]
predictor = OpenVocabPredictor.from_pretrained(*(weights or ["cat_seg_vitb16"]))
result = predictor(photo, names)
result.overlay().save("overlay.png")
for name, share in result.areas().items():
    print(f"{share:6.1%}  {name}")
