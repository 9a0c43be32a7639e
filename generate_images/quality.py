"""Why a generator has no picture to show, beside what `data.quality` finds in one."""

from __future__ import annotations

from data.quality import Flaw

SAFETY_BLANKED = Flaw("safety_blanked", "the model's safety checker blanked the picture")
OVERFLOW = Flaw("not_finite", "the numbers overflowed: draw with dtype bfloat16 or float32")
