"""Multiple choice and question answering: who is named where the text does not say."""
