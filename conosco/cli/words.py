"""Words for problems at the terminal."""

import typer

from conosco.model.problem import Refused
from conosco.rules.messages import say

SENTENCES = {
    "backup_damaged": "The backup is not as it was written ({where}): it was cut off, or bytes were changed. Nothing was restored; "
    "take another copy of it, or an older backup.",
    "backup_exists": "{path} exists already. Give another name, or a folder: then each backup gets a name of its own.",
    "backup_keeps_changing": "The files in {folder} changed faster than they could be copied. Try again when there is less load.",
    "backup_key_absent": "There is no backup key called {key_name}. `conosco backup` makes one.",
    "backup_key_mistyped": "That is not a backup key: it has 56 letters and digits in groups of 8. A character may be wrong or missing.",
    "backup_key_missing": "A backup opens with its backup key only: put it in a file and name that with --key-file, or set CONOSCO_BACKUP_KEY.",
    "backup_key_wrong": "This backup was closed for another backup key: it opens with {key_name} (id {wanted}), and the one given has the id "
    "{given}. Nothing was restored.",
    "backup_newer": "This backup has format {found}; this version of Conosco reads up to {known}. Install the newer version first.",
    "backup_none_there": "There is no backup at {path}.",
    "backup_nothing_there": "There is no installation in {folder}: `conosco serve --data` makes one.",
    "backup_too_many_files": "There are more than {limit} files: that is more than one backup can list.",
    "backup_unknown_file": "This file is not a backup made by `conosco backup`.",
    "bad_network": "{variable} holds {value}, which is not a network such as 10.0.0.0/8. Separate several with commas.",
    "bad_files_folder": "{variable} holds {value}, which is not a folder that exists. Give its whole path, beginning with /.",
    "bad_public_url": "{variable} holds {value}, which is not an address such as https://cdp.example.com (no path behind it).",
    "bad_number": "{variable} holds {value}, which is not a whole number from {least} on. Correct it, or leave it unset.",
    "engine_not_built_yet": "{variable} is set, but this release has the embedded engines only. Unset it to go on.",
    "folder_newer": "The folder {folder} has format {found}; this version of Conosco knows formats up to {known} and would misread it. "
    "Start the newer version again, or restore the backup from before the upgrade (in its folder backups) with this one.",
    "folder_older": "The folder {folder} is older than format {known}, and a single role does not migrate it. "
    "Run `conosco serve` once without --role.",
    "format_unreadable": "{path} cannot be read, so nothing says how to read the folder. Restore this file from a backup.",
    "restore_log_unproven": "The log of this backup cannot be proven: {count} records do not match, the first at position {position}. "
    "Nothing was restored; take an older backup.",
    "restore_mark_missing": "The backup does not hold the record at position {position} that it was marked with. "
    "Nothing was restored; take another backup.",
    "restore_not_empty": "The folder {folder} is not empty. A backup is restored into a new folder only: give another with --to.",
    "restore_state_unproven": "State of this backup does not have the digest that was taken when it was made. "
    "Nothing was restored; take an older backup.",
    "state_lost": "State is missing in {folder} although its log holds records, and a single role does not derive it anew. "
    "Run `conosco serve` once without --role.",
    "state_lost_and_pruned": "State is missing in {folder}, and old requests are destroyed there (CONOSCO_KEEP_RAW_DAYS), so the log alone tells "
    "less than State did. Restore a backup into a new folder; or, to go on with what the log still holds, start once without that variable: "
    "then State and the warehouse are derived from the log anew.",
    "store_newer": "{path} has format {found}; this version of Conosco knows up to {known}. Start the newer version again.",
}


def explain(refused: Refused) -> int:
    """Print each problem as a sentence; returns the exit code."""
    for problem in refused.problems:
        sentence = SENTENCES.get(problem.code)
        typer.echo(sentence.format(**problem.params) if sentence else say(problem), err=True)
    return 2
