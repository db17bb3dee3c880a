"""Sources: where records come from. One file each; none of them knows the database.

files    CSV and XLSX, as the partner centre exports them or people keep them
"""
