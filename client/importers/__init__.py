"""What people bring: one file an importer, one line here (docs/add-an-importer.md)."""

from __future__ import annotations

from client.importers.apple_health import AppleHealth
from client.importers.chatgpt import ChatGPT
from client.importers.claude import Claude
from client.importers.conll import Conll
from client.importers.csv_table import CsvTable
from client.importers.importer import Importer
from client.importers.notes import Notes
from client.importers.ofx import Ofx
from client.importers.qif import Qif
from client.importers.records import PrivityRecords
from client.importers.role_lines import RoleLines
from client.importers.telegram import Telegram
from client.importers.whatsapp import WhatsApp

# In the order in which they are asked whether they know a file: the most particular first.
IMPORTERS: dict[str, Importer] = {
    importer.name: importer
    for importer in (
        ChatGPT(), Claude(), Telegram(), PrivityRecords(), RoleLines(), AppleHealth(),
        Ofx(), Qif(), WhatsApp(), Conll(), CsvTable(), Notes(),
    )
}  # fmt: skip
