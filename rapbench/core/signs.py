"""The signs of relevance."""

from typing import Literal

Sign = Literal["positive", "negative"]
