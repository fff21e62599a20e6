"""One module per arrow of load > fine-tune > evaluate > export > optimize > compact > verify > card > publish."""
