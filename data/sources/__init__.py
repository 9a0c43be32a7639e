"""Readers of anyone's image-text benchmark: any format, any column names, no path out of its folder."""
