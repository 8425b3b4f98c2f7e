# PyCUDA, of which the driver is used here.
