"""How the book is built: chapters whose inputs changed are executed side by side, pages replaced when all are whole."""
