-- SQLite's own; PostgreSQL has another. Words only, without their places and without the texts: a third of the index.
create virtual table alert_search using fts5(
    words, content = '', contentless_delete = 1, detail = none, tokenize = "ascii tokenchars '_'"
);
