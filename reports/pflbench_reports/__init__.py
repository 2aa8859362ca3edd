"""From the results store to tables, figures and pages, on a machine without torch."""

from pflbench_reports.page import write_report

__all__ = ["write_report"]
