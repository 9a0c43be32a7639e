"""The parts of the finished benchmark: layout, card, metadata, provenance; `data.build` puts them together."""
